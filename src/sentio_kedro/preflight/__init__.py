"""What can be known before work is checked before work: settings, bars, files, device, memory and disk."""
