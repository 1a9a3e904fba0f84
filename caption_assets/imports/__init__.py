"""Captions made elsewhere, brought into the ledger as candidates with their origin.

`data_juicer.py` and `nemo_curator.py` read the two layouts into a `Delivery`, without touching the root;
`enter.py` brings a delivery into a batch.
"""
