"""A day of a mail program, by Python's imaplib. Ends with 0 when the server kept its side."""

import imaplib
import sys

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def message(number, body=b"text"):
    head = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: number %d\r\n" % number
    return head + b"Message-ID: <%d@example.org>\r\n\r\n" % number + body + b"\r\n"


box = imaplib.IMAP4(host, port, timeout=60)
assert "IMAP4REV1" in box.capabilities, box.capabilities
ok(box.login(user, password))
for needed in ("IDLE", "UIDPLUS", "MOVE", "UNSELECT", "NAMESPACE", "CONDSTORE", "ENABLE"):
    assert needed in ok(box.capability())[0].decode().upper().split(), needed

# Mailboxes, with a name that needs modified UTF-7.
ok(box.create("Entw&APw-rfe"))
ok(box.create('"Archive/2024"'))
ok(box.subscribe("Entw&APw-rfe"))
assert any(b"Entw&APw-rfe" in line for line in ok(box.list()))
assert any(b"Entw&APw-rfe" in line for line in ok(box.lsub()))
ok(box.rename("Entw&APw-rfe", "Drafts2"))
assert not any(b"Entw&APw-rfe" in line for line in ok(box.list()))
assert box.select("Nowhere")[0] == "NO"
assert ok(box.namespace())

# APPEND with flags and date, FETCH back.
when = '"09-Mar-2024 12:34:56 +0000"'
for number in range(1, 21):
    flags = r"(\Seen \Flagged)" if number % 2 else "()"
    ok(box.append("INBOX", flags, when, message(number)))
assert ok(box.select("INBOX")) == [b"20"]
fetched = ok(box.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
bodies = [part[1] for part in fetched if isinstance(part, tuple)]
assert bodies == [message(number) for number in range(1, 21)]
assert b"09-Mar-2024" in fetched[0][0] or b" 9-Mar-2024" in fetched[0][0], fetched[0]
assert b"\\Flagged" in fetched[0][0] + fetched[1]
part = ok(box.fetch("3", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[TEXT]<1.2>)"))
assert part[0][1] == b"Subject: number 3\r\n\r\n", part
assert part[1][1] == b"ex", part
for item in ("ENVELOPE", "BODYSTRUCTURE", "BODY", "ALL", "FULL"):
    assert ok(box.fetch("1", item))[0], item

# SEARCH.
assert ok(box.search(None, "FLAGGED")) == [b"1 3 5 7 9 11 13 15 17 19"]
assert ok(box.search(None, '(SUBJECT "number 12")')) == [b"12"]
assert ok(box.search(None, "OR (HEADER Message-ID 4@) (NOT 1:19)".replace("4@", '"<4@"'))) == [b"4 20"]
assert ok(box.uid("SEARCH", "UID", "5:7")) == [b"5 6 7"]
assert ok(box.search("UTF-8", 'TEXT "text"')) == [b" ".join(b"%d" % n for n in range(1, 21))]
assert ok(box.search(None, "SINCE 1-Jan-2030")) in ([b""], [None])

# STORE, COPY, MOVE, EXPUNGE.
stored = ok(box.store("2", "+FLAGS", r"(\Answered work)"))
assert b"\\Answered" in stored[0] and b"work" in stored[0], stored
assert ok(box.search(None, "KEYWORD work")) == [b"2"]
ok(box.copy("2", "Drafts2"))
ok(box.uid("MOVE", "3:4", '"Archive/2024"'))
assert ok(box.uid("SEARCH", "UID", "1:4")) == [b"1 2"]
ok(box.store("1", "+FLAGS", r"\Deleted"))
box.response("EXPUNGE")  # those of MOVE
assert ok(box.expunge()) == [b"1"]
assert ok(box.status("INBOX", "(MESSAGES UIDNEXT UNSEEN)"))[0].endswith(b"(MESSAGES 17 UIDNEXT 21 UNSEEN 9)")
assert ok(box.select("Drafts2", readonly=True)) == [b"1"]
assert b"work" in ok(box.fetch("1", "(FLAGS)"))[0]
assert box.store("1", "+FLAGS", r"\Deleted")[0] == "NO"
ok(box.unselect())
ok(box.select('"Archive/2024"'))
assert ok(box.uid("SEARCH", "ALL")) == [b"1 2"]
ok(box.close())

# IDLE hears what another session does.
ok(box.select("INBOX"))
box.send(b"i1 IDLE\r\n")
assert box.readline().startswith(b"+")
other = imaplib.IMAP4(host, port, timeout=60)
ok(other.login(user, password))
ok(other.append("INBOX", None, None, message(99)))
line = box.readline()
while b"EXISTS" not in line:
    assert line.startswith(b"* "), line
    line = box.readline()
assert line == b"* 18 EXISTS\r\n", line
box.send(b"DONE\r\n")
while not line.startswith(b"i1 "):
    line = box.readline()
assert line.startswith(b"i1 OK"), line
ok(other.select("INBOX"))
ok(other.store("18", "+FLAGS", r"\Deleted"))
ok(other.expunge())
ok(box.noop())
assert box.response("EXPUNGE")[1] == [b"18"]

ok(other.delete("Drafts2"))
other.logout()
box.logout()

# A wrong password is refused, and the right one still works.
try:
    imaplib.IMAP4(host, port, timeout=60).login(user, "wrong")
    raise AssertionError("a wrong password was taken")
except imaplib.IMAP4.error as refused:
    assert not isinstance(refused, imaplib.IMAP4.abort), refused
print("done")
