"""What every client does with one running contract server: python story.py. Environment: as for story.js.

The client registers the callback of an ack behind the send, so an answer can be quicker than it. Everything here is
therefore done on the connection's own thread, where answers are read: the story is a generator that yields what it does
next and is resumed with the outcome.
"""
import importlib.metadata
import os
import sys
import threading
import time
import traceback

from socketclusterclient import Socketcluster

PORT, NAME = os.environ["PORT"], os.environ["NAME"]
NAMES = os.environ["NAMES"].split(",")
HOLD = int(os.environ["HOLD_MS"]) / 1000
PATIENCE = 60 + HOLD
BEGAN = time.monotonic()


class Client:
    """A connection on a thread of its own, and the story that runs on it."""

    def __init__(self, story, path="/socketcluster/"):
        self.socket = Socketcluster.socket("ws://127.0.0.1:" + PORT + path)
        self.story = story(self)
        self.inbox, self.wanted = [], None
        self.again, self.began, self.done = False, False, threading.Event()
        self.socket.setAuthenticationListener(self.on_token, self.on_handshake)
        self.socket.setBasicListener(None, lambda _: self.tell("closed"), None)
        for event in ("welcome", "pushed", "rawReceived", "#kickOut", "alive"):
            self.socket.on(event, self.tell)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        self.socket.connect()
        while self.again:
            self.again = False
            self.socket.connect()

    def on_token(self, _, token):
        self.socket.setAuthtoken(token)
        self.tell("token", token)

    def on_handshake(self, _, authenticated):
        if self.began:
            self.tell("open", authenticated)
        else:
            self.began = True
            self.go_on(None)

    def go_on(self, outcome):
        try:
            self.story.send(outcome)(self)
        except StopIteration:
            self.done.set()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def tell(self, kind, data=None):
        self.inbox.append((kind, data))
        self.look()

    def look(self):
        for at, (kind, data) in enumerate(self.inbox):
            if kind == self.wanted:
                del self.inbox[: at + 1]
                self.wanted = None
                return self.go_on(data)


def once(c):
    """A callback for one answer: the client keeps it, and calls it again when a later connection counts as far."""
    answered = []

    def resume(_, error, answer):
        if not answered:
            answered.append(True)
            c.go_on((error, answer))

    return resume


# What a story can yield.


def call(event, data=None):
    return lambda c: c.socket.emitack(event, data, once(c))


def subscribe(channel):
    def act(c):
        c.socket.onchannel(channel, c.tell)
        c.socket.subscribeack(channel, once(c))

    return act


def unsubscribe(channel):
    return lambda c: c.socket.unsubscribeack(channel, once(c))


def publish(channel, data):
    return lambda c: c.socket.publishack(channel, data, once(c))


def wait(kind):
    def act(c):
        c.wanted = kind
        c.look()

    return act


def reconnect():
    def act(c):
        c.again, c.wanted = True, "open"
        c.socket.disconnect()

    return act


def chapter(name):
    print("%6d ms  %s" % ((time.monotonic() - BEGAN) * 1000, name), flush=True)


def main_story(c):
    welcome = yield wait("welcome")
    assert welcome["id"] == c.socket.id and welcome["authenticated"] is False, welcome
    chapter("connect and welcome")

    for value in [None, True, 0, -1.5, "", 'text "\\\n', [], {"b": {"c": []}}, "ü€𝄞 " * 20000]:
        error, answer = yield call("echo", value)
        assert (not error, answer) == (True, value), (error, value)
    assert (yield call("add", {"a": 2, "b": 40}))[1] == 42
    chapter("values there and back")

    error, _ = yield call("add", {"a": 1, "b": "x"})
    assert error == {
        "name": "ArgumentError",
        "message": "a and b must be numbers",
        "code": "EARG",
        "detail": {"got": ["number", "string"]},
    }, error
    assert (yield call("rejectString", "just text"))[0] == "just text"
    chapter("errors with their properties")

    for _ in range(20):
        c.socket.emit("count", None)
    assert (yield call("count"))[1] == 21
    yield call("push", {"event": "pushed", "data": "x", "count": 100})
    pushed = [data for kind, data in c.inbox if kind == "pushed"]
    assert pushed == [{"seq": seq, "data": "x"} for seq in range(1, 101)], pushed
    chapter("events without ack, in order")

    c.socket.onack("question", lambda _, data, respond: respond(None, {"n": data["n"] + 1}))
    _, answer = yield call("ask", {"event": "question", "data": {"n": 1}})
    assert answer == {"ok": True, "reply": {"n": 2}}, answer
    chapter("the server asks")

    room = "room." + NAME
    assert not (yield subscribe(room))[0]
    other = Client(other_story)
    assert (yield wait(room)) == "the other is here"
    for n in range(50):
        assert not (yield publish(room, n))[0]
        assert (yield wait(room)) == n
    assert (yield wait(room)) == list(range(50)), "the other heard all, in order"
    assert (yield call("serverPublish", {"channel": room, "data": "from the server"}))[1] is True
    assert (yield wait(room)) == "from the server"
    assert not (yield unsubscribe(room))[0]
    assert not (yield publish(room, "end"))[0]
    yield call("echo", "whatever was sent has come")
    assert room not in [kind for kind, _ in c.inbox], c.inbox
    assert other.done.wait(PATIENCE)
    chapter("publish and subscribe across connections")

    assert (yield call("blocked.x", 1))[0]["code"] == "EBLOCKED"
    assert (yield call("silent.x", 1))[0]["name"] == "SilentMiddlewareBlockedError"
    assert (yield call("user.x", 1))[0]["name"] == "AuthRequiredError"
    assert (yield subscribe("forbidden." + NAME))[0]["code"] == "ECHANNEL"
    assert (yield publish("readonly." + NAME, 1))[0]["code"] == "EREADONLY"
    assert not (yield subscribe("stamp." + NAME))[0]
    yield publish("stamp." + NAME, [1])
    assert (yield wait("stamp." + NAME)) == {"data": [1], "by": None}
    # Else it would be asked for at each reconnect.
    c.socket.channels.remove("forbidden." + NAME)
    chapter("middleware blocks and changes")

    assert (yield call("login", {"username": NAME, "password": "wrong"}))[0]["code"] == "ELOGIN"
    error, answer = yield call("login", {"username": NAME, "password": "pw-" + NAME})
    assert (not error, answer) == (True, {"username": NAME}), error
    token = yield wait("token")
    assert token.count(".") == 2
    assert (yield call("whoami"))[1]["authToken"]["username"] == NAME
    assert (yield call("user.echo", "in"))[1] == "in"
    chapter("login, and what it opens")

    before = c.socket.id
    assert (yield reconnect()) is True, "the token was not taken"
    assert (yield wait("welcome"))["authenticated"] is True and c.socket.id != before
    _, who = yield call("whoami")
    assert who["authToken"]["username"] == NAME and who["subscriptions"] == ["stamp." + NAME], who
    chapter("a reconnect keeps token and subscriptions")

    assert (yield call("logout"))[1] is True
    assert (yield call("whoami"))[1]["authToken"] is None and c.socket.authToken is None
    yield call("login", {"username": NAME, "password": "pw-" + NAME, "expiresIn": 1})
    yield call("late", {"ms": 1500, "data": None})
    assert (yield call("whoami"))[1]["authState"] == "unauthenticated"
    chapter("logout, and a token that expires")

    assert (yield call("kick", {"channel": "stamp." + NAME, "message": "out"}))[1] is True
    assert (yield wait("#kickOut")) == {"channel": "stamp." + NAME, "message": "out"}
    assert (yield call("whoami"))[1]["subscriptions"] == []
    c.socket.channels.remove("stamp." + NAME)
    chapter("kicked out of a channel")

    c.socket.ws.send("no packet")
    assert (yield wait("rawReceived")) == {"message": "no packet"}
    chapter("raw messages")

    c.again = True
    c.socket.emit("closeMe", {"code": 4100, "reason": "enough"})
    yield wait("closed")
    yield wait("open")
    c.again = True
    c.socket.emit("terminate", None)
    yield wait("closed")
    yield wait("open")
    chapter("closed and dropped by the server")

    waiting = set(NAMES)
    assert not (yield subscribe("hello"))[0]
    c.socket.publish("hello", NAME)
    while waiting:
        name = yield wait("hello")
        if name in waiting:
            waiting.remove(name)
            c.socket.publish("hello", NAME)
    chapter("every other client is heard")
    c.socket.disconnect()


def other_story(c):
    room = "room." + NAME
    assert not (yield subscribe(room))[0]
    c.socket.publish(room, "the other is here")
    heard = []
    while len(heard) < 50:
        data = yield wait(room)
        if isinstance(data, int):
            heard.append(data)
    c.socket.publish(room, heard)
    while (yield wait(room)) != "end":
        pass
    c.socket.disconnect()


def silent_story(c):
    yield wait("welcome")
    ident = c.socket.id
    yield wait("alive")
    assert "closed" not in [kind for kind, _ in c.inbox] and c.socket.id == ident
    c.socket.disconnect()


def main():
    silent, story = Client(silent_story), Client(main_story)
    if not story.done.wait(PATIENCE):
        sys.exit("%s: waits for %s, has %s" % (NAME, story.wanted, story.inbox))
    # A wrong ping, or none, shows only after a while.
    time.sleep(max(0, HOLD - (time.monotonic() - BEGAN)))
    silent.socket.emit("push", {"event": "alive", "data": 1})
    if not silent.done.wait(PATIENCE):
        sys.exit("%s: the silent connection is gone: %s" % (NAME, silent.inbox))
    chapter("%d ms of silence" % (HOLD * 1000))


if __name__ == "__main__":
    assert importlib.metadata.version("socketclusterclient") == NAME.split("-")[1]
    main()
