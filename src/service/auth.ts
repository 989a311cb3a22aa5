/**
 * Who may speak to a worker or a coordinator.
 *
 * Each request carries `Authorization: Bearer TOKEN`. A service on a loopback address may do without a token; on any other address it may not.
 *
 * @module
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { SeqferryError } from "../errors.ts";

/** A new random token: 256 bits, 43 characters that a header and a command line can carry. */
export function newToken(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url", omitPadding: true });
}

/**
 * Refuses a token that a header cannot carry, and a service without one where others than this machine can reach it.
 *
 * @throws {SeqferryError} that says what to do.
 */
export function requireToken(token: string | null, hostname: string): void {
  if (token === null) {
    if (isLoopback(hostname)) return;
    throw new SeqferryError(
      `a service on ${hostname} can be reached from other machines, and needs a token: set SEQFERRY_TOKEN or give --token-file`,
    );
  }
  if (!/^[\x21-\x7e]{16,}$/.test(token)) {
    throw new SeqferryError("a token is at least 16 printable ASCII characters without blanks");
  }
}

/** Whether an address reaches this machine alone. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** The headers of a request to a service with this token. */
export function bearer(token: string | null): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** Checks requests against one token. */
export class Gate {
  readonly #expected: Uint8Array | null;

  /**
   * Takes the token. With null, requests need none; but those that a browser makes for a page are turned away, which
   * name the page's origin, or a host other than this machine's own names where the page has its name point to this
   * machine.
   */
  constructor(token: string | null) {
    this.#expected = token === null ? null : digest(`Bearer ${token}`);
  }

  /** Null for a request that may pass, else the answer to it. Takes the same time whatever the wrong token is. */
  refusal(request: Request): Response | null {
    if (this.#expected === null) {
      if (!request.headers.has("origin") && isLoopback(hostOf(request))) return null;
      return refused("without a token this service is for programs that call it localhost, 127.0.0.1 or [::1]");
    }
    if (timingSafeEqual(digest(request.headers.get("authorization") ?? ""), this.#expected)) return null;
    return refused("this service needs its token, as Authorization: Bearer TOKEN");
  }
}

/** The name by which the one who asks knows this service, without its port; empty where it is none. */
function hostOf(request: Request): string {
  const host = request.headers.get("host");
  return (host === null ? URL.parse(request.url) : URL.parse(`http://${host}`))?.hostname ?? "";
}

function refused(why: string): Response {
  return new Response(`${why}\n`, { status: 401, headers: { "www-authenticate": "Bearer" } });
}

/** Equal lengths for any text, which the comparison needs. */
function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
