"""Where pictures are: folders, object stores, and shards of tar and Parquet."""
