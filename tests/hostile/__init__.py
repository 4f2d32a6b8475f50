"""Files made to do harm, by seed: what reads them must refuse them, or read what is in them."""
