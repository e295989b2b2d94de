"""The rows of several ranks as one table: numpy and Arrow alone, no file is opened here."""
