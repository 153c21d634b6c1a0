"""A folder whose new files and folders become tasks."""
