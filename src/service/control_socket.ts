/**
 * JSON messages over a WebSocket, of any size.
 *
 * Implementations cap the size of one WebSocket message (Deno at 64 MiB), and a plan for many samples may be larger: a text goes out in parts,
 * each with a first character that says whether more follow.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";
import { ProtocolError } from "./protocol.ts";

/** Characters per part; at most three bytes each in UTF-8. */
const PART_LENGTH = 4 * 2 ** 20;
/**
 * Characters of all parts of a message: half of what V8 takes for one string. A redistribution says each id in its meta
 * and in every step that moves it, and its lengths key by key: some 150 characters an id with 10 keys, so that a
 * million ids fit, and several millions do not, which are to be moved in several redistributions. Whoever sends without
 * end is not listened to.
 */
const MOST_LENGTH = 2 ** 28;
const MORE = "+";
const LAST = ".";

/** What happens on a control connection. */
export interface ControlHandlers {
  /** Something has come, be it a part of a message. */
  heard?(): void;
  /** A whole message, as the value that it stands for. What it throws closes the connection. */
  message(json: unknown): void;
  /** The connection is closed, for whatever reason; called once, the last of all calls. */
  closed(reason: string): void;
}

/** One end of a control connection. */
export class ControlSocket {
  readonly #socket: WebSocket;
  readonly #mostLength: number;
  #parts: string[] = [];
  #length = 0;
  #reason = "the connection closed";
  #closed = false;

  /** Takes a socket that is open or opening. */
  constructor(socket: WebSocket, handlers: ControlHandlers, mostLength: number = MOST_LENGTH) {
    this.#socket = socket;
    this.#mostLength = mostLength;
    socket.onmessage = ({ data }) => {
      try {
        handlers.heard?.();
        const text = this.#collect(data);
        if (text !== null) handlers.message(JSON.parse(text));
      } catch (error) {
        this.close(error instanceof Error ? error.message : String(error));
      }
    };
    socket.onerror = (event) => {
      const message = event instanceof ErrorEvent ? event.message : "";
      if (message !== "") this.#reason = message;
    };
    socket.onclose = ({ reason }) => {
      if (this.#closed) return;
      this.#closed = true;
      handlers.closed(reason === "" ? this.#reason : reason);
    };
  }

  /**
   * Sends a message; into a connection that is closing or closed it goes without a word, for `closed` tells of that.
   *
   * @throws {SeqferryError} for a message that is longer than the other side takes; nothing of it is sent.
   */
  send(message: unknown): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const text = textOf(message);
    // Each part has its first character beside those of the text.
    if (text === null || text.length + Math.ceil(text.length / (PART_LENGTH - 1)) > this.#mostLength) {
      const length = text === null ? "more than a string holds" : text.length;
      throw new SeqferryError(`a control message has at most ${this.#mostLength} characters, not ${length}`);
    }
    let at = 0;
    while (at + PART_LENGTH < text.length) {
      // A pair of surrogates stays together: alone, neither is a character that UTF-8 has.
      const end = at + PART_LENGTH - (/[\uD800-\uDBFF]/.test(text[at + PART_LENGTH - 1]!) ? 1 : 0);
      this.#socket.send(MORE + text.slice(at, end));
      at = end;
    }
    this.#socket.send(LAST + text.slice(at));
  }

  /** Closes the connection. */
  close(reason = ""): void {
    if (reason !== "") this.#reason = reason;
    try {
      // The reason in a close frame has at most 123 bytes.
      this.#socket.close(1000, reason.replace(/[^\x20-\x7e]/g, "?").slice(0, 123));
    } catch {
      // Not open yet: the error or close event follows.
    }
  }

  #collect(data: unknown): string | null {
    if (typeof data !== "string") throw new ProtocolError("a control message is text");
    this.#length += data.length;
    if (this.#length > this.#mostLength) {
      this.#parts = [];
      throw new ProtocolError(`a control message has at most ${this.#mostLength} characters`);
    }
    this.#parts.push(data.slice(1));
    if (data.startsWith(MORE)) return null;
    if (!data.startsWith(LAST)) throw new ProtocolError("a part of a control message begins with + or .");
    const text = this.#parts.join("");
    this.#parts = [];
    this.#length = 0;
    return text;
  }
}

/** A message as JSON; null where no string is long enough for it. */
function textOf(message: unknown): string | null {
  try {
    return JSON.stringify(message);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
