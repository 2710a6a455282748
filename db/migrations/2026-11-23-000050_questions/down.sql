DROP TABLE host_questions;
