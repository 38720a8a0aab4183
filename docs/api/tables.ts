import type { DeclarationReflection } from 'typedoc';
import type { MarkdownThemeContext } from 'typedoc-plugin-markdown';
import { firstSentence } from '../.vitepress/sentence.js';
import type { Entry } from './entries.js';
import type { Group } from './groups.js';
import type { Defaults } from './parameters.js';

/** The contents of the reference. */
export function entriesTable(entries: readonly Entry[]): string {
  return table(
    ['Import', 'What it holds'],
    entries.map(({ specifier, name, description }) => [`[${specifier}](${name}/index.md)`, description]),
  );
}

/** The contents of an entry. */
export function indexOf(context: MarkdownThemeContext, groups: readonly Group[]): string {
  const rows = (members: readonly DeclarationReflection[]) =>
    members.map((member) => [`[${member.name}](${context.urlTo(member)})`, firstSentence(summaryOf(context, member))]);
  const parts = groups.flatMap(({ title: sort, purposes }) => [
    `## ${sort}`,
    ...purposes.flatMap(({ title, members }) => [
      ...(title === '' ? [] : [`### ${title}`]),
      table(['Name', 'What it is'], rows(members)),
    ]),
  ]);
  return parts.join('\n\n');
}

/** The first paragraph of what the source says of a declaration. */
export function summaryOf({ helpers }: MarkdownThemeContext, member: DeclarationReflection): string {
  const comment = member.comment ?? member.signatures?.[0]?.comment;
  return comment ? (helpers.getCommentParts(comment.summary).split('\n\n', 1)[0] ?? '') : '';
}

/** Properties or options. A type is below its name, so that the descriptions fit on a phone. */
export function fieldsTable(
  { partials, router }: MarkdownThemeContext,
  fields: readonly DeclarationReflection[],
  { defaults, anchors = false }: { defaults?: Defaults | undefined; anchors?: boolean } = {},
): string {
  const rows = fields.map((field) => {
    const comment = field.comment ?? field.signatures?.[0]?.comment;
    const said = comment ? partials.comment(comment, { isTableColumn: true }) : '';
    const type = field.type ? partials.someType(field.type) : partials.functionType(field.signatures ?? []);
    const anchor = anchors && router.hasUrl(field) ? `<a id="${router.getAnchor(field) ?? ''}"></a> ` : '';
    const name = `${anchor}\`${field.name}${field.flags.isOptional ? '?' : ''}\``;
    return [`${name}<br>${type.replace(/^\s*\\\| /, '')}`, withDefault(said, defaults?.get(field.name))];
  });
  return table(['Name and type', 'Description'], rows);
}

/** Names the default that the source has, unless the description names one. */
function withDefault(description: string, value: string | undefined): string {
  return value === undefined || /\bDefault\b/.test(description) ? description : `${description} Default \`${value}\`.`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) =>
    text
      .replace(/(?<!\\)\|/g, '\\|')
      .replace(/\s+/g, ' ')
      .trim();
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
