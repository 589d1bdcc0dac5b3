/** The pairing token: it comes in the address's fragment, which browsers never send, and stays with this tab. */

import { TOKEN_KEY } from "./keys.js";

/**
 * Token of this tab, "" if there is none yet. Takes it out of the address: it is to be in no screenshot or bookmark.
 * @param {Location} location
 * @param {Storage} storage
 * @param {History} history
 */
export function pairingToken(location, storage, history) {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    storage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given || storage.getItem(TOKEN_KEY) || "";
}

/** Keep a token that was typed in. */
export function keepToken(storage, token) {
  storage.setItem(TOKEN_KEY, token.trim());
}

/** Forget a token that the server refuses. */
export function forgetToken(storage) {
  storage.removeItem(TOKEN_KEY);
}
