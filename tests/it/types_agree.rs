//! Event types and filters are checked twice: by the database, for every producer, and by the program, for its own
//! arguments. Both must mean the same, and a filter must match what it says.

use posthaste::domain::event_type::{validate, validate_filter};

use crate::harness::Stack;

/// Which of the texts the statement takes, each in a transaction of its own.
async fn accepted(stack: &Stack, insert: &str, texts: &[String]) -> Vec<bool> {
    let function = format!(
        "create or replace function public.accepted(texts text[]) returns setof bool language plpgsql as $$
         declare t text;
         begin
           foreach t in array texts loop
             begin {insert}; return next true; exception when check_violation then return next false; end;
           end loop;
         end $$"
    );
    // The texts of both statements are this file's own.
    sqlx::raw_sql(sqlx::AssertSqlSafe(function)).execute(&stack.db).await.unwrap();
    sqlx::query_scalar("select public.accepted($1)").bind(texts).fetch_all(&stack.db).await.unwrap()
}

/// Every text of up to four of these characters, and those at the limit of the length.
fn texts() -> Vec<String> {
    let characters = ["a", "Z", "0", "_", ".", "*", "-", " ", "\n", "ä", "%"];
    let mut texts = vec![String::new()];
    let mut longest = texts.clone();
    for _ in 0..3 {
        longest = longest.iter().flat_map(|text| characters.map(|next| format!("{text}{next}"))).collect();
        texts.extend(longest.iter().cloned());
    }
    texts.extend([127, 128].map(|length| "x".repeat(length)));
    texts.extend(["a.*.b", "a.b.*", "a..*", "a.b*", "a.b.", "\na.b", "a.b\n"].map(str::to_owned));
    texts
}

#[tokio::test]
async fn the_database_and_the_program_accept_the_same_types_and_filters() {
    let stack = Stack::new().await;
    let texts = texts();
    let event = "insert into posthaste.outbox (tenant, event_type, payload) values ('acme', t, '{}')";
    let endpoint =
        "insert into posthaste.endpoints (tenant, url, event_types) values ('acme', 'https://example.com', array[t])";
    let types = accepted(&stack, event, &texts).await;
    let filters = accepted(&stack, endpoint, &texts).await;
    assert_eq!((types.len(), filters.len()), (texts.len(), texts.len()));
    for ((text, of_type), of_filter) in texts.iter().zip(&types).zip(&filters) {
        assert_eq!(*of_type, validate(text).is_ok(), "the type {text:?}");
        assert_eq!(*of_filter, validate_filter(text).is_ok(), "the filter {text:?}");
    }
    assert!(types.iter().filter(|taken| **taken).count() > 30, "some are accepted");
    assert_eq!(
        stack.number("select count(*) from posthaste.outbox").await as usize,
        types.iter().filter(|taken| **taken).count()
    );
}

#[tokio::test]
async fn a_filter_in_sql_matches_what_it_says_and_nothing_else() {
    let stack = Stack::new().await;
    let valid: Vec<String> = texts().into_iter().filter(|text| validate(text).is_ok()).collect();
    let types: Vec<String> =
        valid.iter().flat_map(|text| [text.clone(), format!("{text}.b"), format!("{text}b.c")]).collect();
    let filters: Vec<String> = valid.iter().take(40).flat_map(|text| [text.clone(), format!("{text}.*")]).collect();
    let matching = "select f, t from unnest($1::text[]) f, unnest($2::text[]) t
                     where t like any (posthaste.event_like(array[f]))";
    let pairs: Vec<(String, String)> =
        sqlx::query_as(matching).bind(&filters).bind(&types).fetch_all(&stack.db).await.unwrap();
    let means = |filter: &str, event_type: &str| match filter.strip_suffix(".*") {
        Some(prefix) => event_type.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None => event_type == filter,
    };
    let mut expected: Vec<(String, String)> = Vec::new();
    for filter in &filters {
        expected.extend(types.iter().filter(|text| means(filter, text)).map(|text| (filter.clone(), text.clone())));
    }
    let sorted = |mut pairs: Vec<(String, String)>| {
        pairs.sort();
        pairs
    };
    assert!(expected.len() > filters.len() / 2, "{}", expected.len());
    assert_eq!(sorted(pairs), sorted(expected));
}
