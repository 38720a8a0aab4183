/** The one call of papaparse that is used; the package brings no types. */
declare module 'papaparse' {
  interface StepResult {
    readonly data: readonly string[];
    readonly errors: readonly { readonly message: string }[];
    /** `cursor`: where the row ended in the text. */
    readonly meta: { readonly cursor: number };
  }
  interface StepOptions {
    readonly delimiter: string;
    readonly newline: string;
    step(result: StepResult): void;
  }
  const Papa: { parse(text: string, options: StepOptions): void };
  export default Papa;
}
