"""The bundled job on bundled real data that `streamflow demo` runs."""
