"""`bankstream demo`: the whole bank on this machine, watched from outside by observers of its own, and proven at the end."""
