"""What a running job answers over HTTP: its status, and orders from whoever may give them."""
