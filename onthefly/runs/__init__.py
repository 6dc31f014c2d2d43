"""Runs beside that of the script: trained at a pause by its own step, compared, and made into one."""
