"""What every room uses: atomic files, text, deferred interrupts, progress."""
