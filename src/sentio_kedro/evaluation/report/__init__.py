"""The report: verdict, headline, tables and page."""
