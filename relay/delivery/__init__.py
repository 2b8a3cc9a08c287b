"""delivery: what is owed and due is carried to its site, and what became of it is settled.

One recipient's way: `scheduler` brings it into memory, `routing` and `destination` say where it goes, `courier`
carries it over a connection that `dialler` opened, `judging` says what the answer means, `settling` writes that down
with what follows from it.
"""
