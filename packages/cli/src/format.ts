import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';

/** A whole number with separators: `6,144`. */
export function formatCount(value: number | null): string {
  return value === null ? NONE : Math.round(value).toLocaleString('en-US');
}

/** A short count: `6,144`, `57.3k`, `6.8M`. */
export function formatShortCount(value: number): string {
  const [divisor, unit] = value >= 999_950 ? [1e6, 'M'] : value >= 1e4 ? [1e3, 'k'] : [1, ''];
  return unit === '' ? formatCount(value) : `${Number((value / divisor).toFixed(1))}${unit}`;
}

/** A number of things: `1 seed`, `3 seeds`. */
export function counted(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}

const LIST = new Intl.ListFormat('en-GB', { type: 'conjunction' });

/** Joins names, e.g. `a, b and c`. */
export function listed(names: readonly string[]): string {
  return LIST.format(names);
}

/** The placeholder for a missing number. */
const NONE = '–';

/** A metric or a loss, to three decimals; a large one, such as a perplexity, to four digits. */
export function formatMetric(value: number | null): string {
  if (value === null) return NONE;
  if (Math.abs(value) < 100) return minus(value.toFixed(3)).replace(/^−(0\.000)$/, '$1');
  return Math.abs(value) < 9999.5 ? minus(value.toPrecision(4)) : minus(formatCount(value));
}

/** The title of a metric in tables and charts. */
export function metricTitle({
  metric,
  lowerIsBetter,
}: {
  readonly metric: string;
  readonly lowerIsBetter: boolean;
}): string {
  return lowerIsBetter ? `${metric} (less is better)` : metric;
}

/** A difference with its sign. */
export function formatSigned(value: number): string {
  const text = formatMetric(value);
  return value > 0 && Number(value.toFixed(3)) !== 0 ? `+${text}` : text;
}

/** An interval: `[0.901, 0.912]`. */
export function formatInterval(
  { low, high }: { readonly low: number; readonly high: number },
  format: (value: number) => string = formatMetric,
): string {
  return `[${format(low)},\u00a0${format(high)}]`;
}

/** A p-value: `p = 0.031`. */
export function formatP(p: number): string {
  return p < 0.001 ? 'p\u00a0<\u00a00.001' : `p\u00a0=\u00a0${formatPlainP(p)}`;
}

/** A p-value without a label: `0.031`, `< 0.001`. */
export function formatPlainP(p: number): string {
  return p < 0.001 ? '<\u00a00.001' : String(Number(p.toPrecision(2)));
}

/** A Holm-adjusted p-value: `adj. 0.062`. */
export function formatAdjustedP(p: number): string {
  return `adj.\u00a0${formatPlainP(p)}`;
}

/** A learning rate or another small number, as short as possible: `0.002`, `5e-4`. */
export function formatSmall(value: number): string {
  if (!Number.isFinite(value)) return formatCount(value);
  const short = Number(value.toPrecision(3));
  return short !== 0 && Math.abs(short) < 1e-3 ? short.toExponential() : String(short);
}

/** A duration with its unit: `0.42 s`, `12.3 s`, `2:05 min`, `1:02:05 h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds < 60) return seconds < 10 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(1)} s`;
  return `${formatClock(seconds)} ${Math.round(seconds) < 3600 ? 'min' : 'h'}`;
}

/** A duration as on a clock: `0:07`, `2:05`, `1:02:05`. */
export function formatClock(seconds: number): string {
  const whole = Math.round(seconds);
  const twoDigits = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours > 0 ? `${hours}:${twoDigits(minutes)}:${twoDigits(whole % 60)}` : `${minutes}:${twoDigits(whole % 60)}`;
}

/** A step's duration in milliseconds. */
export function formatMilliseconds(value: number): string {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** A share in percent, to two significant digits. */
export function formatShare(share: number): string {
  return `${Number((100 * share).toPrecision(2))}\u00a0%`;
}

/** Bytes in a suitable unit: `480 B`, `12 KiB`, `3.5 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${formatCount(bytes)}\u00a0B`;
  const [value, unit] = bytes < 1024 ** 2 ? [bytes / 1024, 'KiB'] : [bytes / 1024 ** 2, 'MiB'];
  return `${value < 10 ? Number(value.toFixed(1)) : formatCount(value)}\u00a0${unit}`;
}

/** Bytes in MiB. */
export function formatMebibytes(bytes: number): string {
  return `${formatCount(bytes / 1024 ** 2)} MiB`;
}

/** Any plain value of a configuration, on one line. */
export function formatValue(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return Number.isInteger(value) ? formatCount(value) : formatSmall(value);
  return JSON.stringify(value);
}

/** Replaces the hyphen by a minus sign, which is as wide as a plus. */
function minus(text: string): string {
  return text.replace('-', '−');
}

/**
 * Returns a path for a shell. One with spaces or special characters is in double quotes, which Bash and Windows share,
 * or in single ones if Bash would read it as more than a text within double quotes.
 */
export function quoted(path: string): string {
  if (!/[^\w./\\:-]/.test(path)) return path;
  return /["$`!]/.test(path) ? `'${path.replaceAll("'", String.raw`'\''`)}'` : `"${path}"`;
}

/** Joins the lines of a text. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, (blanks) => (blanks.includes('\n') ? ' ' : blanks));
}

/** Replaces characters that must not reach a terminal or a line of text: controls, and changes of direction. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu, ' ');
}

/** The same for several lines, such as tensor names from an untrusted file. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Cuts a text to `columns`, ending with an ellipsis. */
export function fitted(text: string, columns: number): string {
  if (stringWidth(text) <= columns) return text;
  const anywhere = { hard: true, wordWrap: false, trim: false };
  const [start = ''] = wrapAnsi(text, Math.max(1, columns - 1), anywhere).split('\n');
  if (columns < 1) return '';
  return stringWidth(start) < columns ? `${start.trimEnd()}…` : '…'; // a wide character may leave no room for the ellipsis
}

/** Pads a text with spaces. */
export function padded(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - stringWidth(text)));
}

const GAP = '  ';

/** A plain text table. Every column is as wide as its widest cell; the columns `numbers` are right-aligned. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  numbers: readonly number[],
): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((cells) => stringWidth(cells[column] ?? ''))));
  const aligned = (cell: string, column: number): string => {
    const width = widths[column] ?? 0;
    return numbers.includes(column) ? ' '.repeat(width - stringWidth(cell)) + cell : padded(cell, width);
  };
  return all.map((cells) => `${cells.map(aligned).join(GAP).trimEnd()}\n`).join('');
}
