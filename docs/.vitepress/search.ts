import type { DefaultTheme } from 'vitepress';

/** The search of the site: guides and the pages of methods come first, the API last. */
export const search = {
  provider: 'local',
  options: {
    // Of an export's page its name and what it is: tables of options hold words of every guide.
    _render: (source, env, markdown) => {
      const html = markdown.render(source, env);
      const { relativePath = '' } = env as { relativePath?: string };
      return relativePath.startsWith('reference/api/') ? (html.split('<h2', 1)[0] ?? '') : html;
    },
    miniSearch: {
      // Runs in the page, from its text: it knows nothing of this file.
      searchOptions: {
        boostDocument: (id: string) =>
          /\/reference\/api\//.test(id) ? 0.05 : /\/(?:benchmarks|contributing)\//.test(id) ? 0.5 : 1,
      },
    },
  },
} satisfies DefaultTheme.Config['search'];
