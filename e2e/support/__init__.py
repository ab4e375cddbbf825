"""What scenarios share: kubectl, an installation of their own, waiting."""
