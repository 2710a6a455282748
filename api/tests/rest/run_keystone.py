"""A real Keystone on a database in a file, for the test that starts it: run_keystone.py DIRECTORY PASSWORD.

Prints its port once it serves, and ends with its standard input.
"""

import grp
import os
import pwd
import sys
import threading

directory, password = sys.argv[1:]
config = os.path.join(directory, "keystone.conf")
with open(config, "w") as file:
    file.write(f"""
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[token]
provider = fernet
[cache]
enabled = false
[oslo_policy]
policy_dirs = {directory}/policy.d
""")
os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
for folder in ("fernet", "credential"):
    os.mkdir(os.path.join(directory, folder), 0o700)

from keystone.cmd import manage  # noqa: E402


def run(*words):
    sys.argv = ["keystone-manage", "--config-file", config, *words]
    manage.main()


pid = os.fork()
if pid == 0:
    # Each command configures the process anew, so it has one of its own.
    owner = ["--keystone-user", pwd.getpwuid(os.getuid()).pw_name, "--keystone-group", grp.getgrgid(os.getgid()).gr_name]
    for words in (["db_sync"], ["fernet_setup", *owner], ["credential_setup", *owner],
                  ["bootstrap", "--bootstrap-password", password, "--bootstrap-region-id", "RegionOne"]):
        child = os.fork()
        if child == 0:
            try:
                run(*words)
            except SystemExit as end:
                os._exit(end.code or 0)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print("failed:", *words, file=sys.stderr)
            os._exit(1)
    os._exit(0)
if os.waitpid(pid, 0)[1]:
    sys.exit("Keystone cannot be set up")

sys.argv = ["keystone"]
from keystone.server import wsgi  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

server = make_server("127.0.0.1", 0, wsgi.initialize_public_application(), threaded=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(server.port, flush=True)
server.serve_forever()
