"""Fault injectors that prove that their fault happened: TCP and HTTP proxies, crash points, damage to local state, small disks.

The product contains none of them. Each injector counts its faults by target, because a fault that did not fire proves nothing.
"""
