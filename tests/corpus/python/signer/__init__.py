"""Signs words and reads them back."""
