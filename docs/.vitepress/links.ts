import { dirname, join, normalize } from 'node:path/posix';

/** Where the repository is published. */
export const repository = 'https://github.com/peftjs/peftjs';

/** Where these pages are published, by .github/workflows/docs.yml. */
export const home = 'https://peftjs.github.io/peftjs/';

/** The anchor of a heading, as GitHub makes it: a link into a page works in the repository and on the site. */
export function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

/** A link of a page below docs as the site needs it: what is no page of the site is shown by the repository. */
export function siteLink(page: string, target: string): string {
  const [path = '', anchor] = target.split('#');
  if (/^(?:[a-z]+:|\/|$)/i.test(path)) return target;
  const file = normalize(join('docs', dirname(page), path));
  if (file.startsWith('docs/') && file.endsWith('.md')) return target;
  return `${repository}/blob/main/${file}${anchor === undefined ? '' : `#${anchor}`}`;
}
