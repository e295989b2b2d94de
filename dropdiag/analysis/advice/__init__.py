"""Should this network be trained with dropout, and at which rate? One sentence, and what it rests on.

`read` takes what was recorded and makes a `Case` of it; each rule is a function of that; `advice` puts them together.
"""
