/** Names under which the page keeps things in the browser. */
export const TOKEN_KEY = "bytemini-token"; // of this tab
export const SESSION_RATE_KEY = "bytemini-session-rate"; // Hz of this tab's last headset session
export const NAME_KEY = "bytemini-operator"; // of this browser
