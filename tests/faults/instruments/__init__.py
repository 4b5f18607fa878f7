"""What breaks things, and proves that it did: proxies for wires and HTTP, crash points, damage to local state, small disks.

Nothing of it is in the product. Every instrument counts what it did to whom; a fault that did not fire proves nothing.
"""
