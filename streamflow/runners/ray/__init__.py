"""Workers as actors of Ray, which places them and tells of their deaths; all else is as with processes."""
