"""The bundled job on bundled real data that `streamflow demo` runs.

`job` is the program itself, `replay` its paced source, `board` what is known while it runs, `results` what January came
to, `chart` the picture of it.
"""
