"""What a segment may hold, checked before and after it is decoded: run folders come from others.

`footer` and `pages` check what a file claims, so that nothing is decoded that a few bytes blow up; `rows` what was
decoded, so that a damaged row is never another number; `checked` is a file that is read through both.
"""
