import { PeftError } from '@peftjs/core';

const NO_MEMORY =
  'This tab did not get enough memory. Training needs about 300 MB: close other tabs or programs and try again.';

/** Returns the error in one line for the page. */
export function reasonOf(error: unknown): string {
  const message = (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
  if (/out of memory|could not allocate|allocation failed|bad_alloc|\boom\b/i.test(message)) return NO_MEMORY;
  return error instanceof PeftError ? message : `Something unexpected failed: ${message}`;
}
