/** Plain settings of a value that training is given: what two of them are told apart by, with their name. */
export type Settings = Readonly<Record<string, string | number | boolean | null | readonly number[]>>;

/** A loss, an optimizer or a schedule as resume and the identity of a trial see it. */
export interface Named {
  /** Lower case, e.g. 'adamw'; one name for one formula. */
  readonly name: string;
  /** Everything else that changes its numbers. Default none. */
  readonly settings?: Settings;
}
