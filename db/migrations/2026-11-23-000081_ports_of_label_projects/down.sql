DROP INDEX ports_label_project;
