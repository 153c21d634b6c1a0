"""The light child: its pure machine, its selectors loop, its outbox."""
