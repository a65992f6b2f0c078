"""Write the report, the model card and the export."""
