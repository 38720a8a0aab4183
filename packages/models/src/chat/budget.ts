/**
 * The limits of a running template. Work is charged before it is done, by the size of what it reads or writes, so that
 * no single step of an untrusted template can take long.
 */

/** The maximum work of a template, at most about a second: 1 for each expression, item or 256 characters. */
const MAX_WORK = 200_000;
const CHARACTERS_OF_WORK = 256;
/** Reading characters one by one takes longer. */
const CODE_POINTS_OF_WORK = 32;
/** Steps of a search for a text in a text, whose worst case is the product of their lengths. */
const STEPS_OF_WORK = 2048;
/** The maximum length of one string, in characters. */
const MAX_CHARACTERS = 2 ** 22;

/** Thrown when a template is broken or exceeds its limits. */
export class Fault extends Error {}

/** Thrown by a template's `raise_exception`. */
export class Refusal extends Error {}

/** Counts the work of one rendering. Each method throws a Fault if the work exceeds the limit. */
export interface Budget {
  /** Charges expressions or items. */
  items(count: number): void;
  /** Checks the length of a string that grows. */
  length(length: number): void;
  /** Charges a string of this length, to be copied as a whole. */
  characters(length: number): void;
  /** Charges a string of this length, to be read character by character. */
  codePoints(length: number): void;
  /** Charges the search for a text in a text. */
  search(length: number, pattern: number): void;
}

/** Creates the budget of one rendering. */
export function openBudget(): Budget {
  let work = 0;
  const items = (count: number): void => {
    work += count;
    if (!(work <= MAX_WORK)) throw new Fault('it runs too long');
  };
  const checkLength = (length: number): void => {
    if (!(length <= MAX_CHARACTERS)) throw new Fault(`it writes more than ${MAX_CHARACTERS} characters`);
  };
  return {
    items,
    length: checkLength,
    characters(length) {
      checkLength(length);
      items(length / CHARACTERS_OF_WORK);
    },
    codePoints: (length) => {
      items(length / CODE_POINTS_OF_WORK);
    },
    search: (length, pattern) => {
      items(length / CHARACTERS_OF_WORK + (length * pattern) / STEPS_OF_WORK);
    },
  };
}
