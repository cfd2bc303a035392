"""The bundled job on bundled real data that `streamflow demo` runs.

`job` is the program itself, `replay` its paced source, `board` the live figures, `results` January's results,
`chart` a picture of them.
"""
