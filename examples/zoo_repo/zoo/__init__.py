"""The models of this zoo, one file for each."""
