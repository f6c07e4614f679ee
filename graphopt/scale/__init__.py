"""Many tasks at once: in processes of this machine, or on a Dask cluster, with the same results."""
