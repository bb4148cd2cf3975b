"""Tasks done by actors of Ray Data, on one machine or many."""
