"""The one door for ``run.json`` and ``rank.json``: what comes from a file is checked once, against one model.

`reading.read` gives a plain dict of which every reader knows that its fields are there and of their types; whatever is
otherwise is a `RunError` that names the file and the field. `writing` keeps what a Recorder writes within the same
limits, and `schema` publishes the model as a JSON schema.
"""
