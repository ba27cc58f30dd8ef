"""Files and archives as tables, before anyone knows the vendor."""
