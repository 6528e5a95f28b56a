"""The benchmark behind `efaas bench`: every policy on one queue, measured, checked and reported.

`records` is the data model that all parts share: simulations write it, the report reads it, nothing else
passes between them. Figures and tables can therefore always be made again from the data alone.
"""
