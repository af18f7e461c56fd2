"""Rolling features of customers and devices, and the columns that rules read. Pure."""
