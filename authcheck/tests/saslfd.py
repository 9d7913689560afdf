"""A client of SASLFD, written from authcheck.8 alone: it shares no code and no assumption with authcheck.

Usage: saslfd.py LOGIN PASSWORD; the database has that login, with a CRAM-MD5 context and DATABYTES=5, PATH=/x, AUTH_NOTE=a b.
"""

import base64
import hashlib
import hmac
import os
import re
import socket
import sys

LINE_MAX = 16384
LOGIN, PASSWORD = sys.argv[1:3]
lines = socket.socket(fileno=int(os.environ["SASLFD"])).makefile("rwb", buffering=0)


def say(line):
    lines.write(line.encode() + b"\n")


def hear():
    line = lines.readline(LINE_MAX)
    assert line.endswith(b"\n"), line
    return line[:-1].decode()


def ask(line):
    """One answer: the lines ENV in front of a 235, and the last line."""
    say(line)
    variables = []
    while (answer := hear()).startswith("ENV "):
        variables.append(answer[4:])
    assert re.fullmatch(
        r"MECHS( [A-Z0-9-]+)*|334 [A-Za-z0-9+/=]*|235 .+|(454|500|501|504|535) \d\.\d\.\d .+", answer
    ), answer
    assert not variables or answer.startswith("235 "), (variables, answer)
    return variables, answer


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def challenge(answer):
    code, _, text = answer.partition(" ")
    assert code == "334", answer
    return base64.b64decode(text, validate=True)


def accepted(outcome):
    assert outcome == (["DATABYTES=5", "AUTH_NOTE=a b"], "235 " + LOGIN), outcome


def plain(password=PASSWORD):
    return b64("\0" + LOGIN + "\0" + password)


def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def scram(mechanism, header, bound, initial):
    bare = "n=" + LOGIN.replace("=", "=3D").replace(",", "=2C") + ",r=rOprNGfwEbeRWgbNEkqO"
    first = b64(header + bare)
    if initial:
        answer = ask("AUTH " + mechanism + " " + first)[1]
    else:
        assert challenge(ask("AUTH " + mechanism)[1]) == b""
        answer = ask("LINE " + first)[1]
    server_first = challenge(answer).decode()
    fields = dict(field.split("=", 1) for field in server_first.split(","))
    assert fields["r"].startswith("rOprNGfwEbeRWgbNEkqO") and len(fields["r"]) > 40
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = mac(salted, b"Client Key")
    without_proof = "c=" + b64(header.encode() + bound) + ",r=" + fields["r"]
    message = ",".join([bare, server_first, without_proof]).encode()
    signature = mac(hashlib.sha256(client_key).digest(), message)
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    server_final = challenge(ask("LINE " + b64(without_proof + ",p=" + b64(proof)))[1]).decode()
    assert server_final == "v=" + b64(mac(mac(salted, b"Server Key"), message))
    accepted(ask("LINE"))


exporter = bytes.fromhex(os.environ.get("SSL_TLS_EXPORTER", ""))
plus = "SCRAM-SHA-256-PLUS " if exporter else ""
assert ask("MECHS") == ([], "MECHS " + plus + "SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5")

accepted(ask("AUTH PLAIN " + plain()))
assert ask("AUTH PLAIN")[1] == "334 "
accepted(ask("LINE " + plain()))
assert challenge(ask("AUTH LOGIN")[1]) == b"Username:"
assert ask("LINE " + b64(LOGIN))[1].startswith("334 ")
accepted(ask("LINE " + b64(PASSWORD)))
text = challenge(ask("AUTH CRAM-MD5")[1])
digest = hmac.new(PASSWORD.encode(), text, hashlib.md5).hexdigest()
accepted(ask("LINE " + b64(LOGIN + " " + digest)))
scram("SCRAM-SHA-256", "n,,", b"", True)
scram("SCRAM-SHA-256", "n,,", b"", False)
if exporter:
    scram("SCRAM-SHA-256-PLUS", "p=tls-exporter,,", exporter, True)

assert ask("AUTH DIGEST-MD5")[1].startswith("504 ")
assert ask("AUTH PLAIN =")[1].startswith("501 ")
assert ask("AUTH PLAIN")[1] == "334 "
assert ask("CANCEL")[1].startswith("501 ")
assert ask("LINE " + plain())[1].startswith("500 "), "no exchange is running"
assert ask("AUTH PLAIN")[1] == "334 "
assert ask("LINE " + "A" * 12289)[1].startswith("500 5.5.6 ")
assert ask("AUTH PLAIN " + plain("wrong"))[1].startswith("535 ")
accepted(ask("AUTH PLAIN " + plain()))
assert ask("AUTH PLAIN " + plain("wrong"))[1].startswith("535 ")
say("AUTH PLAIN " + plain("wrong"))
assert lines.readline() == b"", "the third failure ends the service unanswered"
print("all as the page says")
