"""Plan files: text to a plan of tasks, or every problem of it with its line.

Pure but for the reading of the file.  :mod:`shape` says what a file may hold, :mod:`markdown`
reads the form for people, :mod:`reading` makes a plan or problems of either, :mod:`order` knows
circles, waves and conflicts, :mod:`made` turns a plan into what the ledger takes in,
:mod:`shown` one in the ledger into JSON.
"""
