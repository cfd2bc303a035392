"""A job on several processes whose workers and coordinator are killed, frozen and cut off."""
