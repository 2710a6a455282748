-- What identity v3 needs beyond logging in: roles as rows, roles on domains, application
-- credentials, and the attributes of accounts that clients set.

ALTER TABLE domains ADD COLUMN description text NOT NULL DEFAULT '';

ALTER TABLE projects ADD COLUMN tags text[] NOT NULL DEFAULT '{}';

ALTER TABLE users
    ALTER COLUMN password_hash DROP NOT NULL,        -- null: cannot log in by password
    ADD COLUMN email text NOT NULL DEFAULT '',
    ADD COLUMN description text NOT NULL DEFAULT '';

CREATE TABLE roles (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    builtin     boolean NOT NULL DEFAULT false       -- rights hang on its name: it stays as it is
);

-- The ids are made of the names, the same in every cloud.
INSERT INTO roles (id, name, description, builtin) VALUES
    ('61646d69-6e00-8000-8000-000000000000', 'admin', 'Everything, in every project', true),
    ('6d616e61-6765-8200-8000-000000000000', 'manager', 'A member who also manages the project', true),
    ('6d656d62-6572-8000-8000-000000000000', 'member', 'Reads and writes in its project', true),
    ('72656164-6572-8000-8000-000000000000', 'reader', 'Reads in its project', true),
    ('73657276-6963-8500-8000-000000000000', 'service', 'Another service of the cloud', true);

ALTER TABLE role_assignments
    DROP CONSTRAINT role_assignments_role_check,
    ADD CONSTRAINT role_assignments_role_fkey FOREIGN KEY (role) REFERENCES roles (name)
        ON UPDATE CASCADE ON DELETE CASCADE,
    ADD COLUMN domain_id text REFERENCES domains ON DELETE CASCADE,
    -- Neither: the whole system.
    ADD CONSTRAINT role_assignments_one_scope CHECK (num_nonnulls(project_id, domain_id) <= 1),
    DROP CONSTRAINT role_assignments_user_id_project_id_role_key,
    ADD UNIQUE NULLS NOT DISTINCT (user_id, project_id, domain_id, role);

CREATE TABLE application_credentials (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    project_id   uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name         text NOT NULL,
    description  text NOT NULL DEFAULT '',
    secret_hash  text NOT NULL,                      -- argon2id, PHC string
    unrestricted boolean NOT NULL DEFAULT false,     -- its tokens may manage application credentials
    expires_at   timestamptz,
    UNIQUE (user_id, name)
);

-- At most those that the user has on the project: taking one of these away deletes the credential.
CREATE TABLE application_credential_roles (
    credential_id uuid NOT NULL REFERENCES application_credentials ON DELETE CASCADE,
    role          text NOT NULL REFERENCES roles (name) ON UPDATE CASCADE ON DELETE CASCADE,
    PRIMARY KEY (credential_id, role)
);
