import type { Chart, Size } from './charts/draw.js';
import type { Series, Fact } from './contents.js';
import type { Markup } from './html.js';

/** Where a block appears if not everywhere: on the page, or in Markdown and the terminal. */
type Medium = 'page' | 'text';

/**
 * A part of the report. Sections return blocks; `page.ts` and `files.ts` draw them. Their texts are
 * plain: each renderer escapes them.
 */
export type Block = { readonly only?: Medium } & (
  | TextBlock
  | Figure
  /** Blocks that readers of the page can open and close. */
  | { readonly kind: 'details'; readonly title: string; readonly blocks: readonly Block[]; readonly isOpen: boolean }
  /** Blocks side by side, as many as fit. */
  | { readonly kind: 'grid'; readonly style: GridStyle; readonly blocks: readonly Block[] }
);

type GridStyle = 'grid' | 'grid small' | 'pair';

/** A block without other blocks. */
export type TextBlock =
  | { readonly kind: 'heading'; readonly text: string; readonly level: 2 | 3 }
  /** A note explains what is next to it. */
  | { readonly kind: 'paragraph'; readonly text: string; readonly isNote: boolean }
  /** Paragraphs of sentences, each of which starts with the most important one. */
  | { readonly kind: 'findings'; readonly paragraphs: readonly (readonly string[])[] }
  | { readonly kind: 'facts'; readonly facts: readonly Fact[] }
  | { readonly kind: 'list'; readonly items: readonly string[] }
  | Table;

/** A table, whose rows may be in groups. */
export interface Table {
  readonly kind: 'table';
  /** The class of the page's style. */
  readonly style: string;
  /**
   * The headings, the most important column first: a narrow terminal shows the first ones. An empty first one means
   * that the first cell of a row is the row's heading.
   */
  readonly columns: readonly ColumnHead[];
  /** The rows by group. */
  readonly groups: readonly Group<readonly Cell[]>[];
}

/** Rows of a table that belong together. */
export interface Group<Row> {
  /** The heading of the group on the page, which has a line for it. */
  readonly title?: string;
  /** What a text adds to the first cell of each row instead. */
  readonly suffix?: string;
  /** The rows. */
  readonly rows: readonly Row[];
}

/** The heading of a column. */
interface ColumnHead {
  /** The heading. */
  readonly title: string;
  /** Details in smaller type, on the page. */
  readonly detail?: string;
}

/** A column of a table. */
export interface Column<Row> extends ColumnHead {
  /** Returns the cell of a row. */
  cell(row: Row): Cell;
}

/** The text of a cell: the main value, and details in smaller type or in brackets. */
export interface Cell {
  /** The main value. */
  readonly main: string;
  /** Details, below each other on the page. */
  readonly details: readonly string[];
  /** The details, or the most important one, for a terminal; one without it shows none. */
  readonly brief?: string;
  /** The classes of the page's style. */
  readonly look?: string;
}

/** A chart with title, caption and key, next to blocks that belong to it. */
export interface Figure {
  readonly kind: 'figure';
  readonly title: string;
  readonly caption: string;
  /** The arms or curves in the key; none if the chart names them. */
  readonly series: readonly Series[];
  /** Returns the chart, or an image of it. */
  readonly chart: (size: Size) => Chart | Markup;
  /** The size of a chart that has a second version for phones; undefined if one is for all screens. */
  readonly size?: Size;
  readonly blocks: readonly Block[];
}

export function heading(text: string, level: 2 | 3 = 2): Block {
  return { kind: 'heading', text, level };
}

export function paragraph(text: string): Block {
  return { kind: 'paragraph', text, isNote: false };
}

export function note(text: string, only?: Medium): Block {
  return { kind: 'paragraph', text, isNote: true, ...(only && { only }) };
}

export function findings(paragraphs: readonly (readonly string[])[]): Block {
  return { kind: 'findings', paragraphs };
}

export function facts(all: readonly Fact[]): Block {
  return { kind: 'facts', facts: all };
}

export function list(items: readonly string[]): Block {
  return { kind: 'list', items };
}

/** A table of rows in groups. */
export function groupedTable<Row>(
  columns: readonly Column<Row>[],
  groups: readonly Group<Row>[],
  style: string,
): Table {
  const cellsOf = (row: Row): Cell[] => columns.map((column) => column.cell(row));
  return { kind: 'table', style, columns, groups: groups.map((each) => ({ ...each, rows: each.rows.map(cellsOf) })) };
}

/** A table of rows, in the given order. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], style: string): Table {
  return groupedTable(columns, [{ rows }], style);
}

export function cell(main: string, ...details: readonly string[]): Cell {
  return { main, details };
}

/** A figure; everything but its title, caption and chart is optional. */
export function figure(
  title: string,
  caption: string,
  chart: Figure['chart'],
  { series = [], blocks = [], ...size }: Partial<Pick<Figure, 'series' | 'blocks' | 'size'>> = {},
): Block {
  return { kind: 'figure', title, caption, series, chart, blocks, ...size };
}

export function details(title: string, blocks: readonly Block[], isOpen = false): Block {
  return { kind: 'details', title, blocks, isOpen };
}

export function grid(blocks: readonly Block[], style: GridStyle = 'grid'): Block {
  return { kind: 'grid', style, blocks };
}

/** What a text shows of some blocks, in order: no charts, and a heading in place of what can be opened. */
export function inText(blocks: readonly Block[]): TextBlock[] {
  return blocks.flatMap((block): TextBlock[] => {
    if (block.only === 'page') return [];
    if (block.kind === 'table') return [{ ...block, groups: [{ rows: block.groups.flatMap(rowsOf) }] }];
    if (block.kind === 'grid') return inText(block.blocks);
    if (block.kind !== 'figure' && block.kind !== 'details') return [block];
    const shown = inText(block.blocks);
    const hasHeading = shown.length === 0 || shown[0]?.kind === 'heading';
    return hasHeading ? shown : [{ kind: 'heading', text: block.title, level: 3 }, ...shown];
  });
}

function rowsOf({ rows, suffix = '' }: Group<readonly Cell[]>): (readonly Cell[])[] {
  return rows.map(([first = cell(''), ...others]) => [{ ...first, main: first.main + suffix }, ...others]);
}
