"""The Django middleware, in every way in which Django runs one."""
