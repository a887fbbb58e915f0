"""Demo people: who they are, what a view shows, how it is said and how it is painted.

`data.demo.synthetic` is the way in; everything here is a pure function of (seed, split, person, view).
"""
